"""A writer of a test says what it has synced in a file that outlives its machine."""


def synced(guest, name):
    """So many lines were synced, as the writer said."""
    try:
        with open(guest.shared(name)) as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0
