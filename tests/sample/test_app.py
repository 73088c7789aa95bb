import unittest

from app import greeting


class GreetingTest(unittest.TestCase):
    def test_without_a_name(self):
        self.assertEqual(greeting("/"), "Hello from the sample!")

    def test_with_a_name(self):
        self.assertEqual(greeting("/you"), "Hello from the sample, you!")
