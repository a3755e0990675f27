"""The emitter of C++ for high-level synthesis."""
