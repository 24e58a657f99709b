"""The encoder's learning half, the only part of doh that imports torch: projection, target network, training loop, quantisation, checkpoints, `project`."""
