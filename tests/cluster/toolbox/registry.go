package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// registry serves the archives that writeImage makes, read-only, with the part of
// the OCI distribution protocol that a pull needs. It is the mirror of every
// registry (node/config/hosts.toml), so an image may carry any name.
//
// It looks at its folders on every question for a manifest, so that an image
// packed while the cluster runs can be pulled at once, also under an old name.
//
// Two hosts are trouble: see deniedHost and lateHost.
type registry struct {
	folders []string

	mutex    sync.Mutex
	archives map[string]*archive // by path
}

// archive is one image archive, read once and kept open.
type archive struct {
	file     *os.File
	info     os.FileInfo
	blobs    map[string]section // by digest
	manifest map[string]string  // digest by the image's full name
}

type section struct{ offset, size int64 }

const (
	// deniedHost wants credentials that nobody has.
	deniedHost = "denied.example.com"
	// lateHost does not say that an image is not there, but waits for its archive.
	lateHost  = "late.example.com"
	lateLimit = 4 * time.Minute
	lateLook  = 200 * time.Millisecond
)

func serveRegistry(address string, folders []string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening %s\n", listener.Addr())
	return http.Serve(listener, &registry{folders: folders, archives: map[string]*archive{}})
}

func (r *registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	path := strings.TrimPrefix(request.URL.Path, "/v2/")
	if path == "" {
		return // 200: this is a registry
	}
	host := request.URL.Query().Get("ns")
	if host == deniedHost {
		w.Header().Set("WWW-Authenticate", `Basic realm="denied"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`)
		return
	}
	var content io.ReadSeeker
	var digest string
	if _, wanted, ok := strings.Cut(path, "/blobs/"); ok {
		digest, content = wanted, r.blob(wanted)
	} else if name, reference, ok := strings.Cut(path, "/manifests/"); ok {
		digest, content = r.manifest(host+"/"+name, reference)
		for end := time.Now().Add(lateLimit); content == nil && host == lateHost && time.Now().Before(end) && request.Context().Err() == nil; {
			time.Sleep(lateLook)
			digest, content = r.manifest(host+"/"+name, reference)
		}
		w.Header().Set("Content-Type", mediaTypeManifest)
	}
	if content == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, request, "", time.Time{}, content)
}

// manifest finds what reference (a tag or a digest) of the image name is.
func (r *registry) manifest(name, reference string) (string, io.ReadSeeker) {
	r.rescan()
	if strings.HasPrefix(reference, "sha256:") {
		return reference, r.blob(reference)
	}
	r.mutex.Lock()
	digest := ""
	for _, archive := range r.archives {
		if found, ok := archive.manifest[name+":"+reference]; ok {
			digest = found
		}
	}
	r.mutex.Unlock()
	return digest, r.blob(digest)
}

func (r *registry) blob(digest string) io.ReadSeeker {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, archive := range r.archives {
		if found, ok := archive.blobs[digest]; ok {
			return io.NewSectionReader(archive.file, found.offset, found.size)
		}
	}
	return nil
}

// rescan reads the archives that are new or changed, and forgets those that are gone.
func (r *registry) rescan() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	seen := map[string]bool{}
	for _, folder := range r.folders {
		paths, _ := filepath.Glob(filepath.Join(folder, "*.tar")) // only a bad pattern is an error
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				continue // removed in between
			}
			seen[path] = true
			if known, ok := r.archives[path]; ok && os.SameFile(known.info, info) {
				continue // archives are replaced, never written to
			}
			archive, err := readArchive(path)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				continue
			}
			r.archives[path] = archive
		}
	}
	for path := range r.archives {
		if !seen[path] {
			delete(r.archives, path) // its file closes when no pull reads it any more
		}
	}
}

func readArchive(path string) (*archive, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	result := &archive{file, info, map[string]section{}, map[string]string{}}
	entries := tar.NewReader(file)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return result, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if digest, ok := strings.CutPrefix(header.Name, "blobs/sha256/"); ok {
			offset, err := file.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			result.blobs["sha256:"+digest] = section{offset, header.Size}
		}
		if header.Name != "index.json" {
			continue
		}
		var index struct {
			Manifests []struct {
				Digest      string
				Annotations map[string]string
			}
		}
		if err := json.NewDecoder(entries).Decode(&index); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, manifest := range index.Manifests {
			result.manifest[manifest.Annotations[nameAnnotation]] = manifest.Digest
		}
	}
}
