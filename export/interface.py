"""What an exported file and its users agree on."""

KINDS = ("exact", "exact-baked", "f32", "f16")
#: Names of the size inputs, slowest dimension first, by the number of dimensions.
SIZES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width"), 4: ("frames", "depth", "height", "width")}
#: Points in one turn of the loop: activations of so many fit the cache.
BLOCK = 8192
FORMAT_VERSION = 1
