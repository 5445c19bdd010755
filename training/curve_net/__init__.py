"""Training of `curve-net`, which reads an integral from one to four scans."""
