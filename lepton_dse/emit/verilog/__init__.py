"""The Verilog emitter."""
