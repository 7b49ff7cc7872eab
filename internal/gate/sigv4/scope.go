package sigv4

import (
	"fmt"
	"strings"
)

// Agrees says whether a signature's scope is that of its host, as far as AWS's names tell. A host signs for itself alone, because its name is signed; but
// behind some of AWS's names a customer's program answers, which could pass a request on to a service that does not look at the name. What is signed for
// such a host must be for it.
func (s *Signature) Agrees(host string) error {
	labels, ok := ofAWS(strings.TrimSuffix(strings.ToLower(host), "."))
	if !ok {
		return nil
	}
	at := len(labels) - 1
	for at >= 0 && !isRegion(labels[at]) {
		at--
	}
	if at < 0 {
		return nil
	}
	if labels[at] != s.Region {
		return fmt.Errorf("it is signed for the region %s, and %s is in %s", s.Region, host, labels[at])
	}
	for _, label := range labels[max(0, at-1):min(len(labels), at+2)] {
		if want, theirs := customers(label); theirs && want != s.Service {
			return fmt.Errorf("it is signed for the service %s, and %s is one of %s", s.Service, host, want)
		}
	}
	return nil
}

// ofAWS are the labels of a name of AWS's, without its domain.
func ofAWS(host string) (labels []string, ok bool) {
	for _, domain := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws", ".amazonaws.eu"} {
		if name, ok := strings.CutSuffix(host, domain); ok {
			return strings.Split(name, "."), true
		}
	}
	return nil, false
}

// customers are the services behind whose names programs of AWS's customers answer.
func customers(label string) (service string, ok bool) {
	switch label {
	case "execute-api", "es", "aoss", "vpc-lattice-svcs":
		return label, true
	case "lambda-url":
		return "lambda", true
	case "appsync-api":
		return "appsync", true
	}
	return "", false
}

// isRegion is for labels such as us-east-1 and us-gov-west-1.
func isRegion(label string) bool {
	parts := strings.Split(label, "-")
	if len(parts) < 3 || len(parts[0]) < 2 || len(parts[0]) > 4 {
		return false
	}
	for _, p := range parts[:len(parts)-1] {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz") != "" {
			return false
		}
	}
	number := parts[len(parts)-1]
	return len(number) == 1 && number[0] >= '1' && number[0] <= '9'
}
