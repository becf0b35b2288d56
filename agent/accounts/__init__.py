"""Who may sign in at a station: a small file of accounts, and what proves that somebody is one of them."""
