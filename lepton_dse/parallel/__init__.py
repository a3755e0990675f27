"""Many devices: the strategies that split a model over them, and what each must hold."""
