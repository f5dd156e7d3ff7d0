"""FER-2013: one reader for every form in which people have it, conversions, and a look at what is inside."""
