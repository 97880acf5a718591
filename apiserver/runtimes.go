package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// runtimeNow is the version of its runtime that a function's calls run in now, trials aside; "" for container images and where
// no worker has the runtime.
func (s *Server) runtimeNow(v *catalog.Version) lambda.RuntimeVersionID {
	id := s.cfg.Catalog.RuntimeChoice(&v.Version).Version
	if id != lambda.HostRuntime {
		return id
	}
	return s.installed(v.Runtime)
}

// runtimePin tells a function's owner why its calls stay in an older version of the runtime; nil when they do not.
func (s *Server) runtimePin(v *catalog.Version) *types.RuntimeVersionError {
	t, ok := s.cfg.Catalog.RuntimePin(&v.Version)
	if !ok {
		return nil
	}
	return &types.RuntimeVersionError{
		ErrorCode: aws.String("RuntimeUpdateIncompatible"),
		Message:   aws.String("The function stays in this version of its runtime until its code is changed: in the next one " + t.Reason),
	}
}

func (s *Server) installed(runtime string) lambda.RuntimeVersionID {
	if s.cfg.Runtimes == nil {
		return ""
	}
	id, _ := s.cfg.Runtimes.Installed(runtime)
	return id
}

func (s *Server) getRuntimeManagementConfig(_ context.Context, c *call, in *sdk.GetRuntimeManagementConfigInput) (*sdk.GetRuntimeManagementConfigOutput, error) {
	_, v, _, err := s.find(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	mode, arn := describeManagement(v)
	return &sdk.GetRuntimeManagementConfigOutput{FunctionArn: aws.String(v.ARN()), UpdateRuntimeOn: mode, RuntimeVersionArn: arn}, nil
}

// describeManagement: the version is shown with Manual only (API reference).
func describeManagement(v *catalog.Version) (types.UpdateRuntimeOn, *string) {
	switch m := v.Management; m.Mode {
	case "", lambda.RuntimeAuto:
		return types.UpdateRuntimeOnAuto, nil
	case lambda.RuntimeManual:
		return types.UpdateRuntimeOnManual, aws.String(m.Version.ARN(v.Region))
	default:
		return types.UpdateRuntimeOn(m.Mode), nil
	}
}

func (s *Server) putRuntimeManagementConfig(ctx context.Context, c *call, in *sdk.PutRuntimeManagementConfigInput) (*sdk.PutRuntimeManagementConfigOutput, error) {
	f, v, _, err := s.find(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	switch {
	case err != nil:
		return nil, err
	case ref.Qualifier != "" && !lambda.IsVersionNumber(ref.Qualifier):
		return nil, invalid("Runtime management is configured for $LATEST and published versions; %s is an alias.", ref.Qualifier)
	case v.Image != nil:
		return nil, invalid("Runtime management is not supported for functions with packageType Image: the image is the runtime.")
	case (in.RuntimeVersionArn != nil) != (in.UpdateRuntimeOn == types.UpdateRuntimeOnManual):
		return nil, invalid("RuntimeVersionArn goes with UpdateRuntimeOn Manual, and Manual needs it.")
	}
	var version lambda.RuntimeVersionID
	if in.RuntimeVersionArn != nil {
		if version, err = s.runtimeVersion(v, *in.RuntimeVersionArn); err != nil {
			return nil, err
		}
	}
	written, err := s.cfg.Catalog.SetRuntimeManagement(ctx, f.ID(), v.Number, lambda.UpdateRuntimeOn(in.UpdateRuntimeOn), version)
	if err != nil {
		return nil, err
	}
	mode, arn := describeManagement(written)
	return &sdk.PutRuntimeManagementConfigOutput{FunctionArn: aws.String(written.ARN()), UpdateRuntimeOn: mode, RuntimeVersionArn: arn}, nil
}

// runtimeVersion reads the ARN of a version that a function can run in: one that was added to its runtime, or that the workers
// have installed.
func (s *Server) runtimeVersion(v *catalog.Version, arn string) (lambda.RuntimeVersionID, error) {
	id := lambda.RuntimeVersionID(arn[strings.LastIndexByte(arn, ':')+1:])
	if id.ARN(v.Region) == arn {
		if id != "" && id == s.installed(v.Runtime) {
			return id, nil
		}
		if state, ok := s.cfg.Catalog.RuntimeState(v.Runtime); ok {
			if slices.ContainsFunc(state.Releases, func(r lambda.RuntimeRelease) bool { return r.ID == id && !r.Deprecated }) {
				return id, nil
			}
		}
	}
	return "", invalid("Runtime version %.200s is not a version of %s that functions can move to here. `berth runtime show %[2]s` lists them.", arn, v.Runtime)
}

// runtimesPath lists (GET) the runtimes of all accounts; runtimesPath/NAME shows one and, for the first account only, adds (POST)
// a version to it or moves it to one.
const runtimesPath = ownPrefix + "v1/runtimes"

// maxRuntimeRequest bounds the body of a request to runtimesPath, in bytes.
const maxRuntimeRequest = 16 << 10

func isRuntimesPath(path string) bool {
	return path == runtimesPath || strings.HasPrefix(path, runtimesPath+"/")
}

// runtimeDocument is what runtimesPath answers for one runtime.
type runtimeDocument struct {
	lambda.RuntimeState
	// Installed is the version of the workers themselves, "" when none has the runtime; what "host" means.
	Installed lambda.RuntimeVersionID `json:"installed,omitempty"`
}

// runtimeRequest is the body of a POST: a version to add, made from an image, or "host"; or one that is there by its digest.
type runtimeRequest struct {
	From      string                  `json:"from,omitempty"`
	Version   lambda.RuntimeVersionID `json:"version,omitempty"`
	Publish   bool                    `json:"publish,omitempty"`   // functions move to it
	Candidate bool                    `json:"candidate,omitempty"` // or a rollout tries it
	// Deprecated says of a version that is there that nothing is to move to it any more, or again. What runs in it goes on.
	Deprecated *bool `json:"deprecated,omitempty"`
}

// serveRuntimes answers runtimesPath and what is below.
func (s *Server) serveRuntimes(c *call) error {
	if err := s.refuseUnsigned(c); err != nil {
		return err
	}
	body, size, err := readBody(c.r, maxRuntimeRequest)
	if err != nil {
		return err
	}
	if size > maxRuntimeRequest {
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %d bytes", maxRuntimeRequest)
	}
	if err := s.identify(c, body); err != nil {
		return err
	}
	name := strings.TrimPrefix(strings.TrimPrefix(c.r.URL.Path, runtimesPath), "/")
	if err := s.permitOwn(c, runtimeAction(c.r.Method, name), s.ownARN(c, "runtime/"+name)); err != nil {
		return err
	}
	var answer any
	switch {
	case c.r.Method == http.MethodGet && name == "":
		answer = s.runtimeDocuments()
	case c.r.Method == http.MethodGet:
		answer, err = s.runtimeDocument(name)
	case c.r.Method == http.MethodPost && name != "":
		answer, err = s.changeRuntime(c, name, body)
	default:
		return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET, or POST with a runtime's name.", c.r.Method, c.r.URL.Path)
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(c.w).Encode(answer)
}

// runtimeAction is what a key must be allowed for a request.
func runtimeAction(method, name string) string {
	switch {
	case method == http.MethodPost:
		return "berth:ChangeRuntime"
	case name == "":
		return "berth:ListRuntimes"
	}
	return "berth:GetRuntime"
}

func (s *Server) runtimeDocuments() []runtimeDocument {
	var names []string
	if s.cfg.Runtimes != nil {
		names = s.cfg.Runtimes.Names()
	}
	for _, state := range s.cfg.Catalog.RuntimeStates() {
		names = append(names, state.Name)
	}
	slices.Sort(names)
	all := []runtimeDocument{}
	for _, name := range slices.Compact(names) {
		if d, err := s.runtimeDocument(name); err == nil {
			all = append(all, *d)
		}
	}
	return all
}

func (s *Server) runtimeDocument(name string) (*runtimeDocument, error) {
	d := &runtimeDocument{RuntimeState: lambda.RuntimeState{Name: name, Releases: []lambda.RuntimeRelease{}, Current: lambda.HostRuntime}, Installed: s.installed(name)}
	state, ok := s.cfg.Catalog.RuntimeState(name)
	if ok {
		d.RuntimeState = *state
	}
	if !ok && d.Installed == "" {
		return nil, lambda.Errorf(lambda.ResourceNotFound, "No worker has the runtime %.100q, and no version of it was added.", name)
	}
	return d, nil
}

// changeRuntime adds a version to a runtime, or moves the runtime to one. Runtimes are everybody's, so only the account that the
// server began with may: its key is in the server's own directory.
func (s *Server) changeRuntime(c *call, name string, body []byte) (*runtimeDocument, error) {
	if c.account != catalog.FirstAccount {
		return nil, lambda.Errorf(lambda.AccessDenied, "Runtimes are shared by all accounts: only account %s may change them.", catalog.FirstAccount)
	}
	var in runtimeRequest
	switch err := json.Unmarshal(body, &in); {
	case err != nil || (in.From == "") == (in.Version == "") || in.Publish && in.Candidate || in.Deprecated != nil && (in.Version == "" || in.Publish || in.Candidate):
		return nil, lambda.Errorf(lambda.SerializationFailure, `expected {"from":IMAGE} or {"version":DIGEST}, with "publish":true or "candidate":true, or a version with "deprecated"`)
	case !slices.Contains(runtimes, types.Runtime(name)):
		return nil, invalid("There is no runtime %.100q.", name)
	case s.cfg.Images == nil:
		return nil, invalid("This server cannot add runtimes: it has no container images.")
	}
	id := in.Version
	if in.From == string(lambda.HostRuntime) {
		id = lambda.HostRuntime
	}
	if id == "" {
		release, err := s.cfg.Images.Release(c.r.Context(), name, in.From)
		if known := (*lambda.Error)(nil); err != nil && !errors.As(err, &known) { // who asks runs the server, and may read why
			s.log.Warn("an image could not be made a version of a runtime", "runtime", name, "from", in.From, "err", err)
			err = invalid("No version could be made of %.200q: %v", in.From, err)
			if strings.HasPrefix(in.From, "/") || strings.HasPrefix(in.From, ".") {
				err = invalid("%.200q is not an image; for a directory of the server write dir:%.200[1]s", in.From)
			}
		}
		if err != nil {
			return nil, err
		}
		added, err := s.cfg.Catalog.AddRelease(c.r.Context(), name, release)
		if err != nil {
			return nil, err
		}
		id = added.ID
		s.log.Info("version added to a runtime", "runtime", name, "version", id, "number", added.Number, "source", added.Source)
	}
	if in.Deprecated != nil {
		if err := s.cfg.Catalog.Deprecate(c.r.Context(), name, id, *in.Deprecated); err != nil {
			return nil, err
		}
	}
	if in.Publish || in.Candidate {
		_, err := s.cfg.Catalog.EditRuntime(c.r.Context(), name, func(state *lambda.RuntimeState) error {
			switch {
			case in.Candidate && state.Current == id:
				return lambda.Errorf(lambda.ResourceConflict, "This is the current version of %s already.", name)
			case in.Candidate && state.Candidate == id:
				return lambda.Errorf(lambda.ResourceConflict, "A rollout of this version of %s goes on already. See `berth rollout show %[1]s`.", name)
			case in.Candidate:
				state.Candidate = id
			default:
				state.Current, state.Candidate = id, ""
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.log.Info("runtime moved", "runtime", name, "version", id, "candidate", in.Candidate)
	}
	return s.runtimeDocument(name)
}
