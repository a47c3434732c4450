"""Everything people look at: text, pages, figures, notebooks, progress."""
