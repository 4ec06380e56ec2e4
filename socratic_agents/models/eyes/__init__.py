"""Eyes: what the families of captioners differ in, and how one is made to fit a machine."""
