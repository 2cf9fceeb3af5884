"""A challenger that sees a sample of what the champion sees, in a process of its own: how much do they differ?"""
