"""Several processes behind one port: who starts them, what they are told, and what they tell each other."""
