package sqlite

// OpenGathering is Open with another number of digests that are gathered in memory.
var OpenGathering = open
