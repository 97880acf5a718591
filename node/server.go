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
	"berth/functionurl"
	"berth/lambda"
	"berth/logs"
	"berth/queues"
	"berth/store"
	"berth/sts"
	"berth/tenanttoken"
)

// server is the HTTP face: the Lambda API, and CloudWatch Logs and STS on the same port.
type server struct {
	api          *apiserver.Server
	logs         *logs.API
	operations   *operations
	sts          *sts.API
	authenticate func(*http.Request, []byte) (lambda.Caller, error)
}

// serverParts is what the HTTP face gets from its process.
type serverParts struct {
	blobs       store.Blobs
	catalog     *catalog.Catalog
	logs        *logs.Store // nil where the logs are on other machines
	invoker     apiserver.Invoker
	preparer    apiserver.Preparer
	versions    versions
	images      *images
	hosts       func() []string // names of the runtimes that workers have installed
	provisioned func(catalog.Provision) apiserver.ProvisionState
	events      apiserver.Events
	queues      *queues.Client // nil where queues are not read
	status      func(context.Context) (admin.Status, error)
	living      func() []lambda.ManagerID // see operations.managers
	tenants     tenantsFunc
}

func newServer(cfg Config, p serverParts) (*server, error) {
	authenticate := authenticator(cfg, p.catalog)
	api, err := apiserver.New(apiserver.Config{
		Catalog: p.catalog, Blobs: p.blobs, Invoker: p.invoker, Images: p.images,
		Preparer:     &preparer{images: p.images, versions: p.versions, next: p.preparer},
		Runtimes:     &hostRuntimes{p.versions, p.hosts},
		Authenticate: authenticate, Inspect: code.Inspect, Log: cfg.Log,
		Provisioned: p.provisioned, Events: p.events, Queue: queueCheck(p.queues), Tenants: p.tenants,
		JWKS: func() ([]byte, error) { return tenanttoken.JWKS(p.catalog) },
	})
	if err != nil {
		return nil, err
	}
	return &server{
		api: api, logs: &logs.API{Store: p.logs, Region: cfg.Region, Log: cfg.Log}, sts: &sts.API{Log: cfg.Log}, authenticate: authenticate,
		operations: &operations{catalog: p.catalog, authenticate: authenticate, authorize: api.Authorize, status: p.status, managers: p.living, log: cfg.Log},
	}, nil
}

// authenticator returns who may call: holders of a known key, or everybody in development mode.
func authenticator(cfg Config, cat *catalog.Catalog) func(*http.Request, []byte) (lambda.Caller, error) {
	verify := auth.NewVerifier(auth.Config{Keys: cat, Region: cfg.Region}).Verify
	if cfg.DevCredentials {
		verify = auth.NewDevAuthenticator(cfg.Region).Verify
	}
	return func(r *http.Request, body []byte) (lambda.Caller, error) {
		identity, err := verify(r, body)
		return identity.Caller, err
	}
}

// maxLogsBody bounds a request of the logs API, in bytes.
const maxLogsBody = 1 << 20

// ServeHTTP tells the protocols apart: CloudWatch Logs names its operation in a header, STS takes forms. What comes for the
// host of a function URL is the function's, whatever it looks like.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _, isURL := functionurl.Route(r)
	switch {
	case isURL: // a function may well have headers or forms of other services
		s.api.ServeHTTP(w, r)
	case s.operations.handles(r):
		s.operations.ServeHTTP(w, r)
	case s.logs.Handles(r):
		s.serveLogs(w, r)
	case s.sts.Handles(r):
		s.serveSTS(w, r)
	default:
		s.api.ServeHTTP(w, r)
	}
}

func (s *server) serveSTS(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header()["X-Amzn-Requestid"] = []string{id}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, sts.MaxBody))
	if err != nil {
		s.sts.Refuse(w, id, lambda.Errorf(lambda.RequestEntityTooLarge, "The request must be smaller than %d bytes, and whole.", sts.MaxBody))
		return
	}
	who, err := s.authenticate(r, body)
	if err != nil {
		s.sts.Refuse(w, id, err)
		return
	}
	s.sts.Serve(w, r, id, who, body)
}

func (s *server) serveLogs(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header()["X-Amzn-Requestid"] = []string{id}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogsBody))
	if err != nil {
		s.logs.Refuse(w, lambda.Errorf(lambda.RequestTooLarge, "the request must be smaller than %d bytes", maxLogsBody))
		return
	}
	who, err := s.authenticate(r, body)
	if err == nil {
		action, resource := s.logs.Asks(r, who.Account, body)
		err = s.api.Authorize(r, id, who, action, resource)
	}
	var refused *lambda.Error
	if errors.As(err, &refused) {
		s.logs.Refuse(w, refused)
		return
	}
	if s.logs.Store == nil {
		s.logs.Refuse(w, lambda.Errorf(lambda.ServiceFailure, "Functions' logs are on the disks of the workers that ran them, and this server is none."))
		return
	}
	s.logs.Serve(w, r, who.Account, body)
}
