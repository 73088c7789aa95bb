package main

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// maxPush is the largest push that is taken; the projects of tests are tiny.
const maxPush = 64 << 20

// serveGit serves the bare repositories below folder over Git's smart HTTP
// protocol, through Git's own http-backend, to anybody. Hooks run as on any server.
func serveGit(address, folder string) error {
	git, err := exec.LookPath("git")
	if err != nil {
		return err
	}
	root, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	backend := &cgi.Handler{
		Path: git,
		Args: []string{"http-backend"},
		Env: []string{
			"GIT_PROJECT_ROOT=" + root,
			"GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_GLOBAL=" + filepath.Join(root, "gitconfig"),
			"PATH=" + os.Getenv("PATH"),
		},
	}
	fmt.Fprintf(os.Stderr, "listening %s\n", listener.Addr())
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(os.Stderr, "%s %s\n", request.Method, request.URL)
		if !mayPush(root, request) {
			w.Header().Set("WWW-Authenticate", `Basic realm="push"`)
			http.Error(w, "a push needs a token", http.StatusUnauthorized)
			return
		}
		body, err := wholeBody(w, request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer body.Close()
		backend.ServeHTTP(w, request)
	}))
}

// mayPush says whether a request is no push, or one that the repository takes.
func mayPush(root string, request *http.Request) bool {
	const service = "git-receive-pack"
	path := filepath.Clean("/" + request.URL.Path)
	repository := strings.TrimSuffix(strings.TrimSuffix(path, "/"+service), "/info/refs")
	if request.URL.Query().Get("service") != service && !strings.HasSuffix(path, "/"+service) {
		return true
	}
	kept, err := os.ReadFile(filepath.Join(root, repository, "push-token"))
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	var token string
	var until int64
	if _, scanned := fmt.Sscan(string(kept), &token, &until); err != nil || scanned != nil {
		return false
	}
	_, password, _ := request.BasicAuth()
	same := subtle.ConstantTimeCompare([]byte(password), []byte(token)) == 1
	return same && time.Now().Unix() < until
}

// wholeBody reads a chunked body, which CGI knows nothing of and Git sends for
// larger pushes, so that its length is known.
func wholeBody(w http.ResponseWriter, request *http.Request) (io.Closer, error) {
	request.Body = http.MaxBytesReader(w, request.Body, maxPush)
	if request.ContentLength >= 0 || strings.EqualFold(request.Method, http.MethodGet) {
		return request.Body, nil
	}
	file, err := os.CreateTemp("", "push-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	size, err := io.Copy(file, request.Body)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	request.Body, request.ContentLength, request.TransferEncoding = file, size, nil
	return file, nil
}
