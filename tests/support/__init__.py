"""Real servers, faulty wires and blocking facades for the tests."""
