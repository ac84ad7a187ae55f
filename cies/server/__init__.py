"""``cies serve``: the live page and the HTTP interface of one gallery."""
