"The jobs for who has a terminal; nothing here imports torch before it is needed."
from .run import main

__all__ = ['main']
