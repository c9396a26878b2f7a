"""What the tests share: waiting, real processes, a faulty line, small cases."""
