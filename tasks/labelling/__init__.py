"""What people annotate next and look at again, the window they do it in, and the guide beside it."""
