"""kp: how many new facts can you pack into a LoRA adapter before it harms the model?"""

__version__ = "0.1.0"
