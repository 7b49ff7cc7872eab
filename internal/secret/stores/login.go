package stores

import (
	"context"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
)

// FindLogin is the source of a login that an agent keeps in a file of this person's. The path is fixed now, so that a variable that is set later leads nowhere else.
func FindLogin(name string, getenv func(string) string) (book.Source, error) {
	s := book.Source{Store: book.Login, Login: name}
	k, known := login.KindOf(name)
	if !known {
		var names string
		for _, k := range login.Kinds() {
			names += " " + k.Name
		}
		return s, problem("casemate secret set NAME --from login --login NAME; known are:"+names, "no agent is known whose login is %q", name)
	}
	var err error
	s.Path, err = k.Where(getenv)
	return s, err
}

// loggedIn is that login's access token. It ends after some hours, and is renewed where it is about to.
type loggedIn struct {
	file  login.File
	renew func(context.Context, login.File) error
}

func newLogin(s book.Source, h Host) (loggedIn, error) {
	f, err := login.At(s.Login, s.Path)
	return loggedIn{f, h.Renew}, err
}

func (l loggedIn) Get(ctx context.Context) (secret.Value, time.Time, error) {
	return l.file.Get(ctx, time.Now, func(ctx context.Context) error { return l.renew(ctx, l.file) })
}
