"""The registered model: its versions with what they were made of, which one is in use, and every move of an alias."""
