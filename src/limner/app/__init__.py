"""The playground: a trained model in the browser, drawn with by hand.

Drawings become what a model sees in `drawings`, answers become films in `player`; only `page` and
`server` know gradio, which comes with `pip install 'limner[app]'`.
"""
