"""`python -m lorikeet.cli`."""

from lorikeet.cli import app

app(prog_name="lorikeet")
