package runtimes

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"berth/lambda"
)

// ReleaseLabel is the label in an image's configuration that makes the image a version of a runtime: a Recipe as JSON.
const ReleaseLabel = "berth.runtime"

// Recipe says how a runtime is booted that is an image: all of a Runtime but its version and mounts. It is kept in the image,
// so that the digest of the image stands for it too: a newer Berth boots an old version as before.
type Recipe struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Frames  bool     `json:"frames,omitempty"`
	Parks   bool     `json:"parks,omitempty"`
	Ahead   string   `json:"ahead,omitempty"`
	Sized   bool     `json:"sized,omitempty"`
}

// Release is what is added to an image to make it a version of a runtime.
type Release struct {
	Recipe Recipe
	Files  map[string][]byte // path inside, without the first slash → content; all 0644
}

// interpreters are where an image may have a language's program, as Lambda's own images, the languages' official ones and
// distributions have it.
var interpreters = []string{"/var/lang/bin/", "/usr/local/bin/", "/usr/bin/"}

var anyProvided = regexp.MustCompile(`^provided(\.al2|\.al2023)?$`)

// NewRelease says what makes an image the next version of the runtime name. find reports whether the image has a program at an
// absolute path. Error: InvalidParameterValue when it lacks what the runtime needs, or nothing is known of the runtime.
func NewRelease(name string, find func(path string) bool) (*Release, error) {
	switch {
	case anyProvided.MatchString(name):
		return &Release{Recipe: Recipe{Name: name, Command: []string{"/var/task/bootstrap"}, Env: commonEnv(), Parks: true}}, nil
	case pythonName.MatchString(name):
		program, err := locate(find, name)
		if err != nil {
			return nil, err
		}
		return withBootstrap("python", Recipe{
			Name: name, Command: []string{program, "-S", "/var/runtime/bootstrap.py"},
			Env: append(managedEnv(name), pythonEnv...), Frames: true, Parks: true, Ahead: pythonAhead,
		})
	case nodeName.MatchString(name):
		program, err := locate(find, "node")
		if err != nil {
			return nil, err
		}
		if !find("/bin/sh") {
			return nil, lambda.Errorf(lambda.InvalidParameterValue, "The image has no /bin/sh, with which the runtime %s is started.", name)
		}
		return withBootstrap("nodejs", Recipe{
			Name: name, Command: []string{"/bin/sh", "/var/runtime/bootstrap", program},
			Env: append(managedEnv(name), nodePath(nodeName.FindStringSubmatch(name)[1])), Frames: true, Parks: true, Ahead: "1", Sized: true,
		})
	}
	return nil, lambda.Errorf(lambda.InvalidParameterValue, "Berth has no bootstrap for the runtime %s: expected python3.x, nodejsN.x, provided.al2 or provided.al2023.", name)
}

func locate(find func(string) bool, program string) (string, error) {
	for _, dir := range interpreters {
		if find(dir + program) {
			return dir + program, nil
		}
	}
	return "", lambda.Errorf(lambda.InvalidParameterValue, "The image has no program %s in any of %s.", program, strings.Join(interpreters, ", "))
}

func withBootstrap(language string, recipe Recipe) (*Release, error) {
	files, err := bootstrap(language)
	if err != nil {
		return nil, err
	}
	r := &Release{Recipe: recipe, Files: map[string][]byte{}}
	for _, f := range files {
		r.Files["var/runtime/"+f.name] = f.content
	}
	return r, nil
}

// Label is the value of ReleaseLabel.
func (r *Release) Label() (string, error) {
	text, err := json.Marshal(r.Recipe)
	return string(text), err
}

// Boot makes a Runtime of an image's label. Its mounts are for the caller to add.
func Boot(name string, version lambda.RuntimeVersionID, label string) (*Runtime, error) {
	var r Recipe
	if err := json.Unmarshal([]byte(label), &r); err != nil || r.Name != name || len(r.Command) == 0 {
		return nil, fmt.Errorf("version %s of the runtime %s is an image that does not say how to boot it", version, name)
	}
	return &Runtime{
		Name: name, Version: version, Command: r.Command, Env: r.Env,
		Frames: r.Frames, Parks: r.Parks, Ahead: r.Ahead, Sized: r.Sized,
	}, nil
}
