package node

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/google/uuid"

	"berth/admin"
	"berth/apiserver"
	"berth/auth"
	"berth/catalog"
	"berth/code"
	"berth/lambda"
	"berth/logs"
	"berth/store"
	"berth/tenanttoken"
)

// server is the HTTP face: the Lambda API, and CloudWatch Logs on the same port.
type server struct {
	api          *apiserver.Server
	logs         *logs.API
	operations   *operations
	authenticate func(*http.Request, []byte) (lambda.AccountID, error)
}

// serverParts is what the HTTP face gets from its process.
type serverParts struct {
	blobs          store.Blobs
	catalog        *catalog.Catalog
	logs           *logs.Store // nil where the logs are on other machines
	invoker        apiserver.Invoker
	preparer       apiserver.Preparer
	runtimeVersion func(name string) (lambda.RuntimeVersionID, error)
	provisioned    func(catalog.Provision) apiserver.ProvisionState
	events         apiserver.Events
	status         func(context.Context) (admin.Status, error)
	living         func() []lambda.ManagerID // see operations.managers
	tenants        tenantsFunc
}

func newServer(cfg Config, p serverParts) (*server, error) {
	authenticate := authenticator(cfg, p.catalog)
	api, err := apiserver.New(apiserver.Config{
		Catalog: p.catalog, Blobs: p.blobs, Invoker: p.invoker, Preparer: p.preparer,
		Authenticate: authenticate, Inspect: code.Inspect, Log: cfg.Log,
		Provisioned: p.provisioned, Events: p.events, Tenants: p.tenants,
		JWKS: func() ([]byte, error) { return tenanttoken.JWKS(p.catalog) },
		RuntimeVersion: func(name string) lambda.RuntimeVersionID {
			version, err := p.runtimeVersion(name)
			if err != nil {
				return ""
			}
			return version
		},
	})
	if err != nil {
		return nil, err
	}
	return &server{
		api: api, logs: &logs.API{Store: p.logs, Region: cfg.Region, Log: cfg.Log}, authenticate: authenticate,
		operations: &operations{catalog: p.catalog, authenticate: authenticate, status: p.status, managers: p.living, log: cfg.Log},
	}, nil
}

// authenticator returns who may call: holders of a known key, or everybody in development mode.
func authenticator(cfg Config, cat *catalog.Catalog) func(*http.Request, []byte) (lambda.AccountID, error) {
	verify := auth.NewVerifier(auth.Config{Keys: cat, Region: cfg.Region}).Verify
	if cfg.DevCredentials {
		verify = auth.NewDevAuthenticator(cfg.Region).Verify
	}
	return func(r *http.Request, body []byte) (lambda.AccountID, error) {
		identity, err := verify(r, body)
		return identity.Account, err
	}
}

// maxLogsBody bounds a request of the logs API, in bytes.
const maxLogsBody = 1 << 20

// ServeHTTP tells the protocols apart: CloudWatch Logs names its operation in a header, operators' paths are their own.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.operations.handles(r) {
		s.operations.ServeHTTP(w, r)
		return
	}
	if !s.logs.Handles(r) {
		s.api.ServeHTTP(w, r)
		return
	}
	w.Header()["X-Amzn-Requestid"] = []string{uuid.NewString()}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogsBody))
	if err != nil {
		s.logs.Refuse(w, lambda.Errorf(lambda.RequestTooLarge, "the request must be smaller than %d bytes", maxLogsBody))
		return
	}
	account, err := s.authenticate(r, body)
	var refused *lambda.Error
	if errors.As(err, &refused) {
		s.logs.Refuse(w, refused)
		return
	}
	if s.logs.Store == nil {
		s.logs.Refuse(w, lambda.Errorf(lambda.ServiceFailure, "Functions' logs are on the disks of the workers that ran them, and this server is none."))
		return
	}
	s.logs.Serve(w, r, account, body)
}
