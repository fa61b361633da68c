"""Show: a page that retrieves from a gallery of images. `memssl_keras.demo.app.launch()` opens it."""
