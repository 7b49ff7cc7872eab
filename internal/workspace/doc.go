// Package workspace is the project as the sandbox sees it: what is hidden and protected, and what becomes of the changes.
package workspace
