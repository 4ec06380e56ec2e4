"""Where image models run: on several devices, in other processes, or by turns."""
