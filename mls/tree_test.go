package mls

import "errors"

// isRule says whether err is a TreeError of the rule.
func isRule(err error, rule TreeRule) bool {
	var e *TreeError
	return errors.As(err, &e) && e.Rule == rule
}
