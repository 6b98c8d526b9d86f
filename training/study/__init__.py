"""The study: when generative retrieval beats dense retrieval, on the user's own data."""
