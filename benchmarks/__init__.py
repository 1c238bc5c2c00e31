"""Measurements that anyone can repeat: `make bench`. They print ratios, counters and CPU time, and assert nothing."""
