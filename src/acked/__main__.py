"""``python -m acked`` is ``acked``."""

from acked.cli import main

main()
