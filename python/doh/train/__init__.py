"""The encoder's learning half, the only part of doh that imports torch: projection, network, training, quantisation, checkpoints, `project`."""
