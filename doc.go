// Package casemate holds the tests of the tree as a whole; the program is in cmd/casemate.
package casemate
