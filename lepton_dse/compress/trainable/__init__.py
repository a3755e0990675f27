"""Networks as trainable PyTorch modules: fine-tuning and distillation of pruned, quantised and shared weights (extra ``torch``).

Nothing outside this package needs PyTorch, and nothing here is imported before it is asked for.
"""
