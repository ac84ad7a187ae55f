"""CIES behind interfaces of other libraries; each module needs its library."""
