package manager

// Level is seen by a test of its size.
type Level = level
