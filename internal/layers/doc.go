// Package layers holds the import policy of the project; its test enforces it.
package layers
