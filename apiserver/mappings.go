package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"berth/catalog"
	"berth/lambda"
	"berth/queues"
)

// Event source mappings are kept, validated and shown; package sources reads the queues of SQS. An enabled mapping of another
// source says in its LastProcessingResult that nothing reads it: to refuse it, or to call it Disabled, would make Terraform
// and SAM fail or never be content.

// What the LastProcessingResult of an enabled mapping may be.
const (
	problem   = "PROBLEM: "
	notPolled = problem + "this server does not read from event sources of this kind. The mapping is stored, and its function is not called."
	noSQS     = problem + "this server was not told where SQS is. Start it with --aws-endpoint sqs=URL. The mapping is stored, and its function is not called."
)

// queueCheck bounds the look for a new mapping's queue. SQS that does not answer is no reason to refuse the mapping.
const queueCheck = 3 * time.Second

// checkQueue refuses a queue that does not exist. Text recorded (test_esm_with_not_existing_sqs_queue).
func (s *Server) checkQueue(ctx context.Context, source *eventSource) error {
	if source.service != "sqs" || s.cfg.Queue == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queueCheck)
	defer cancel()
	if err := s.cfg.Queue(ctx, source.names[0]); errors.Is(err, queues.ErrNoQueue) {
		return invalid("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist.")
	} else if err != nil {
		s.log.WarnContext(ctx, "the queue of a new event source mapping cannot be looked for", "source", source.names[0], "err", err)
	}
	return nil
}

// why says why an enabled mapping's function is not called; nil when it is.
func (s *Server) why(m *catalog.Mapping) *string {
	sqs := len(m.Sources) == 1 && strings.Contains(m.Sources[0], ":sqs:")
	switch {
	case !sqs:
		return aws.String(notPolled)
	case s.cfg.Queue == nil:
		return aws.String(noSQS)
	case m.Problem != "":
		return aws.String(problem + m.Problem)
	}
	return nil
}

// nothingProcessed is what a new or a disabled mapping says.
const nothingProcessed = "No records processed"

// The states of a mapping. Changes take effect at once; the answer to a change shows the state in between.
const (
	stateCreating  = "Creating"
	stateEnabled   = "Enabled"
	stateEnabling  = "Enabling"
	stateDisabled  = "Disabled"
	stateDisabling = "Disabling"
	stateUpdating  = "Updating"
	stateDeleting  = "Deleting"
)

// maxMappingPage is the most that one page of a list holds (API reference, ListEventSourceMappings).
const maxMappingPage = 100

// describeMapping shows a mapping; state "" is what it has settled in.
func (s *Server) describeMapping(a lambda.AccountID, m *catalog.Mapping, state string) (*types.EventSourceMappingConfiguration, error) {
	out := new(types.EventSourceMappingConfiguration)
	if err := json.Unmarshal(m.Settings, out); err != nil {
		return nil, fmt.Errorf("event source mapping %s: %w", m.UUID, err)
	}
	// A queue's mapping never shows one on Lambda, whatever became of its messages (recorded, and as Terraform's states of live ones have it).
	// Here it does only when the queue is not read.
	streams := out.LastProcessingResult != nil
	switch {
	case state == "" && m.Enabled:
		state, out.LastProcessingResult = stateEnabled, s.why(m)
	case state == "":
		state = stateDisabled
	case streams:
		out.LastProcessingResult = aws.String(nothingProcessed)
	}
	out.State = aws.String(state)
	out.UUID = aws.String(m.UUID)
	out.EventSourceMappingArn = aws.String(s.cfg.Catalog.MappingARN(a, m.UUID))
	out.FunctionArn = aws.String(m.Function)
	out.LastModified = aws.Time(m.Modified)
	return out, nil
}

// mappingFunction reads the function that a mapping is for and returns its ARN as the mapping keeps it. Text recorded.
func (s *Server) mappingFunction(c *call, name *string) (arn, short string, err error) {
	ref, err := s.ref(c, name, nil)
	if err != nil {
		return "", "", err
	}
	if _, _, _, err := s.find(c, name, nil); err != nil {
		return "", "", invalid("Function does not exist")
	}
	return ref.ARN(), ref.Function, nil
}

func (s *Server) createMapping(ctx context.Context, c *call, in *sdk.CreateEventSourceMappingInput) (*types.EventSourceMappingConfiguration, error) {
	source, err := sourceOf(in.EventSourceArn, in.SelfManagedEventSource, in.SourceAccessConfigurations)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	set := source.defaults(in, id)
	if err := source.check(set); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	function, short, err := s.mappingFunction(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	if ref, err := s.ref(c, in.FunctionName, nil); err == nil {
		if err := s.refuseTenants(ref, "An event source mapping"); err != nil { // its records name no tenant
			return nil, err
		}
	}
	if err := s.checkQueue(ctx, source); err != nil {
		return nil, err
	}
	settings, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode an event source mapping: %w", err)
	}
	enabled := in.Enabled == nil || *in.Enabled
	m, err := s.cfg.Catalog.CreateMapping(ctx, c.account, catalog.Mapping{
		UUID: id, Function: function, Sources: source.names, Topics: in.Topics, Enabled: enabled, Tags: in.Tags, Settings: settings,
	}, func(old *catalog.Mapping) error { return source.taken(old, short, in.Topics) })
	if err != nil {
		return nil, err
	}
	if !enabled {
		return s.describeMapping(c.account, m, stateDisabled)
	}
	if why := s.why(m); why != nil {
		s.log.WarnContext(ctx, "an event source mapping is stored, but nothing reads its source", "account", c.account, "mapping", id, "function", function,
			"source", source.names, "why", *why)
	}
	return s.describeMapping(c.account, m, stateCreating)
}

func (s *Server) getMapping(_ context.Context, c *call, in *sdk.GetEventSourceMappingInput) (*types.EventSourceMappingConfiguration, error) {
	m, ok := s.cfg.Catalog.Mapping(c.account, aws.ToString(in.UUID))
	if !ok {
		return nil, noSuchResource()
	}
	return s.describeMapping(c.account, m, "")
}

func (s *Server) listMappings(_ context.Context, c *call, in *sdk.ListEventSourceMappingsInput) (*sdk.ListEventSourceMappingsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	function := ""
	if in.FunctionName != nil {
		ref, err := s.ref(c, in.FunctionName, nil)
		if err != nil {
			return nil, err
		}
		function = ref.ARN()
	}
	size := maxMappingPage
	if in.MaxItems != nil && *in.MaxItems >= 1 && *in.MaxItems < maxMappingPage {
		size = int(*in.MaxItems)
	}
	list, next := s.cfg.Catalog.Mappings(c.account, after, size, func(m *catalog.Mapping) bool {
		return (function == "" || m.Function == function) &&
			(in.EventSourceArn == nil || len(m.Sources) == 1 && m.Sources[0] == *in.EventSourceArn)
	})
	out := &sdk.ListEventSourceMappingsOutput{EventSourceMappings: []types.EventSourceMappingConfiguration{}, NextMarker: markerOf(next)}
	for _, m := range list {
		shown, err := s.describeMapping(c.account, m, "")
		if err != nil {
			return nil, err
		}
		out.EventSourceMappings = append(out.EventSourceMappings, *shown)
	}
	return out, nil
}

func (s *Server) updateMapping(ctx context.Context, c *call, in *sdk.UpdateEventSourceMappingInput) (*types.EventSourceMappingConfiguration, error) {
	id := aws.ToString(in.UUID)
	if _, ok := s.cfg.Catalog.Mapping(c.account, id); !ok {
		return nil, noSuchResource()
	}
	function := ""
	if in.FunctionName != nil {
		var err error
		if function, _, err = s.mappingFunction(c, in.FunctionName); err != nil {
			return nil, err
		}
	}
	state := stateUpdating
	m, err := s.cfg.Catalog.UpdateMapping(ctx, c.account, id, noSuchResource(), func(m *catalog.Mapping) error {
		set := new(types.EventSourceMappingConfiguration)
		if err := json.Unmarshal(m.Settings, set); err != nil {
			return fmt.Errorf("event source mapping %s: %w", m.UUID, err)
		}
		changeSettings(set, in)
		source, err := sourceOf(set.EventSourceArn, set.SelfManagedEventSource, set.SourceAccessConfigurations)
		if err != nil {
			return err
		}
		if err := source.check(set); err != nil {
			return err
		}
		if function != "" {
			m.Function = function
		}
		state = stateUpdating
		if in.Enabled != nil && *in.Enabled != m.Enabled {
			m.Enabled = *in.Enabled
			state = map[bool]string{true: stateEnabling, false: stateDisabling}[m.Enabled]
		}
		m.Modified = time.Now()
		m.Settings, err = json.Marshal(set)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.describeMapping(c.account, m, state)
}

func (s *Server) deleteMapping(ctx context.Context, c *call, in *sdk.DeleteEventSourceMappingInput) (*types.EventSourceMappingConfiguration, error) {
	id := aws.ToString(in.UUID)
	if _, ok := s.cfg.Catalog.Mapping(c.account, id); !ok {
		return nil, noSuchResource()
	}
	m, err := s.cfg.Catalog.DeleteMapping(ctx, c.account, strings.ToLower(id), noSuchResource())
	if err != nil {
		return nil, err
	}
	return s.describeMapping(c.account, m, stateDeleting)
}
