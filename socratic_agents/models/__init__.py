"""The image models, each blocking, list in and list out; nothing else imports torch."""
