// Package berth is the root of the module; it holds only tests of the tree itself. The program is cmd/berth.
package berth
