package session

import (
	"slices"
	"strconv"
	"strings"

	"casemate.dev/internal/guest"
	"casemate.dev/internal/policy"
)

// gitLogins are the secrets that git can log in with, at each of their hosts: those that are replaced in basic authentication, which is what git does over
// HTTPS. Where one is for some paths, git has it there alone: elsewhere it would be an alarm that nobody has caused.
func gitLogins(secrets []policy.Value[policy.Secret]) (list []guest.GitLogin) {
	for _, v := range secrets {
		s := v.V
		if !slices.Contains([]string{"", policy.PlaceBasic, policy.PlaceGit, policy.PlaceHeader + "authorization"}, s.Place) || !gitMethods(s.Methods) {
			continue
		}
		for _, host := range s.Hosts {
			for _, port := range s.Ports {
				for _, path := range gitPaths(s.Paths) {
					list = append(list, guest.GitLogin{Address: gitAddress(host, port) + path, Variable: s.Env})
				}
			}
		}
	}
	return list
}

// gitMethods says whether git's requests are among them: it asks what there is, and then for it (gitprotocol-http(5)).
func gitMethods(methods []string) bool {
	return len(methods) == 0 || slices.Contains(methods, "GET") && slices.Contains(methods, "POST")
}

func gitAddress(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == 443 {
		return "https://" + host
	}
	return "https://" + host + ":" + strconv.Itoa(port)
}

// gitPaths are the beginnings of repositories' paths below which all may be that the patterns cover.
func gitPaths(patterns []string) (list []string) {
	if len(patterns) == 0 {
		return []string{""}
	}
	for _, p := range patterns {
		begin, _, star := strings.Cut(p, "*")
		if star {
			begin = begin[:max(0, strings.LastIndexByte(begin, '/'))]
		}
		for _, service := range []string{"/info/refs", "/git-upload-pack", "/git-receive-pack"} {
			begin = strings.TrimSuffix(begin, service)
		}
		if !slices.Contains(list, begin) {
			list = append(list, begin)
		}
	}
	return list
}
