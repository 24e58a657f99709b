# What nanobind's stub generator cannot see (tools/update_stubs).

doh._core.DohError$:
    class DohError(ValueError):
        """A file that cannot be decoded, or a limit or argument that stands in the way."""
        name: str
        """The error's name (docs/format.md, section 12), such as "BAD_MAGIC"."""
        number: int
        """The error's number (cpp/include/doh.h)."""
