"""The C++ emitter."""
