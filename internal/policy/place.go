package policy

import (
	"slices"
	"strings"
)

// Places in a request that a secret may name as they are. The others are "header:NAME" and "query:NAME".
const (
	PlaceBearer = "bearer"
	PlaceBasic  = "basic"
	PlaceGit    = "git"
	PlaceSigV4  = "sigv4"   // in no place: its secret signs the request
	PlaceHeader = "header:" // and the field's name in small letters
	PlaceQuery  = "query:"  // and the parameter's name
)

// place reads where in a request a placeholder is replaced.
func place(text string) (string, error) {
	if name, ok := strings.CutPrefix(text, PlaceHeader); ok {
		return headerPlace(strings.ToLower(name))
	}
	if name, ok := strings.CutPrefix(text, PlaceQuery); ok {
		if name == "" || len(name) > 64 || !isToken(name) {
			return "", bad("write query:NAME, such as query:key", "%s is not a parameter's name", quoted(name))
		}
		return text, nil
	}
	if words := []string{PlaceBearer, PlaceBasic, PlaceGit, PlaceSigV4}; !slices.Contains(words, text) {
		return "", bad("write header:NAME, bearer, basic, query:NAME, git or sigv4", "%s is not a place in a request", quoted(text))
	}
	return text, nil
}

// headerPlace refuses the fields by which servers decide what a request is, where it goes and how long it is: a value in them is not a credential.
func headerPlace(name string) (string, error) {
	framing := []string{
		"host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "proxy-connection",
		"proxy-authorization", "expect", "accept-encoding", "x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url",
	}
	switch {
	case name == "" || len(name) > 64 || !isToken(name):
		return "", bad("write header:NAME, such as header:x-api-key", "%s is not the name of a field", quoted(name))
	case slices.Contains(framing, name):
		return "", bad("name the field that holds the credential", "the field %s says what a request is, or where it goes", quoted(name))
	}
	return PlaceHeader + name, nil
}

// isToken is for names of fields and parameters (RFC 9110, 5.6.2), less some marks that nobody uses.
func isToken(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})
}

// The variable of a secret whose place is sigv4 ends in this, and those of its other parts as AWS's programs have them.
const accessKeyID = "ACCESS_KEY_ID"

// partsOf are the variables of a secret that is the parts of an AWS credential: the key's id, the key and the session token, which not all have.
func partsOf(env string) []string {
	before := strings.TrimSuffix(env, accessKeyID)
	return []string{env, before + "SECRET_ACCESS_KEY", before + "SESSION_TOKEN"}
}

// SecretVariables are the variables inside that hold what stands for a secret.
func SecretVariables(place, env string) []string {
	if place == PlaceSigV4 {
		return partsOf(env)
	}
	return []string{env}
}

// checkParts refuses a variable that does not say what the others are.
func (s Secret) checkParts() error {
	if s.Place == PlaceSigV4 && !strings.HasSuffix(s.Env, accessKeyID) {
		return bad("write env: AWS_ACCESS_KEY_ID; AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are its as well then",
			"the variable %s of a secret with place sigv4 does not end in %s", quoted(s.Env), accessKeyID)
	}
	return nil
}
