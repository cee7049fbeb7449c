"""The same task, written once for each queue that is measured.

Each module has, besides its task:

- ``send(number)``: the queue's ordinary call, a function or a coroutine function;
- ``send_all(numbers)``: its call for many at once, where it has one;
- ``prepare()``: a coroutine function that makes its tables, where it does not do so by itself;
- ``connect()`` and ``close()``: coroutine functions that the producer awaits before it sends, and
  at the end, where needed.
"""
