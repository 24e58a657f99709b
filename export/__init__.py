"""ONNX files made from .doh files, and their use with ONNX Runtime. Needs the extra `onnx` or `onnx-gpu`; reads files only, never the trainer."""
