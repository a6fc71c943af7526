"""The playground: draw with a trained model in the browser.

`drawings` turns drawings into images for a model, and `player` turns answers into films. Only
`page` and `server` use gradio, which `pip install 'limner[app]'` installs.
"""
