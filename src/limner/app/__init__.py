"""The playground: draw with trained models in the browser.

`drawings` turns drawings into images for a model, `player` turns questions into scenes, and `scene`
turns scenes into values for the page or GIFs. Only `page`, `parts` and `server` use gradio, which
`pip install 'limner[app]'` installs.
"""
