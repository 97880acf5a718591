package logs

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"berth/lambda"
)

// call is one API call being answered.
type call struct {
	ctx     context.Context
	api     *API
	account lambda.AccountID
}

// maxDescribe is the most groups or streams that one answer has, and the default: CloudWatch's.
const maxDescribe = 50

// groupOf returns the group that a call means by name or by ARN.
func (c *call) groupOf(name, identifier string) (string, error) {
	if (name == "") == (identifier == "") {
		return "", invalid("Exactly one of logGroupName and logGroupIdentifier must be given.")
	}
	member := "logGroupName"
	if identifier != "" {
		member, name = "logGroupIdentifier", identifier
		if strings.HasPrefix(name, "arn:") {
			own, found := strings.CutPrefix(strings.TrimSuffix(name, ":*"), c.arn(""))
			if !found {
				return "", ErrNotFound
			}
			name = own
		}
	}
	if !ValidGroup(name) {
		return "", invalid("1 validation error detected: Value '%.600s' at '%s' failed to satisfy constraint: "+
			`Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`, name, member)
	}
	return name, nil
}

func (c *call) arn(group string) string {
	return "arn:aws:logs:" + c.api.Region + ":" + string(c.account) + ":log-group:" + group
}

func limited(limit *int, most int) (int, error) {
	if limit == nil {
		return most, nil
	}
	if *limit < 1 || *limit > most {
		return 0, invalid("1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: "+
			"Member must have a value between 1 and %d", *limit, most)
	}
	return *limit, nil
}

func millis(t *int64) time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.UnixMilli(max(*t, 0))
}

func encodeToken(s string) string {
	if s == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(s))
}

func decodeToken(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return "", ErrCursor
	}
	return string(b), nil
}

type filterInput struct {
	LogGroupName, LogGroupIdentifier, LogStreamNamePrefix, FilterPattern, NextToken string
	LogStreamNames                                                                  []string
	StartTime, EndTime                                                              *int64
	Limit                                                                           *int
}

type filteredEvent struct {
	LogStreamName string `json:"logStreamName"`
	Timestamp     int64  `json:"timestamp"`
	Message       string `json:"message"`
	IngestionTime int64  `json:"ingestionTime"`
	EventID       string `json:"eventId"`
}

type filterOutput struct {
	Events    []filteredEvent `json:"events"`
	Searched  []struct{}      `json:"searchedLogStreams"` // always empty nowadays, as on AWS
	NextToken string          `json:"nextToken,omitempty"`
}

func (c *call) filterLogEvents(in filterInput) (any, error) {
	group, err := c.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if len(in.LogStreamNames) > 100 || len(in.LogStreamNames) > 0 && in.LogStreamNamePrefix != "" {
		return nil, invalid("Give at most 100 logStreamNames, or logStreamNamePrefix, not both.")
	}
	q := Query{Start: millis(in.StartTime), Streams: in.LogStreamNames, StreamPrefix: in.LogStreamNamePrefix}
	if in.EndTime != nil {
		q.End = millis(in.EndTime).Add(time.Millisecond) // the API's end is inclusive here
	}
	if q.Limit, err = limited(in.Limit, maxPageEvents); err != nil {
		return nil, err
	}
	if q.Match, err = parsePattern(in.FilterPattern); err != nil {
		return nil, invalid("Invalid filter pattern: %s", err)
	}
	if q.Cursor, err = decodeToken(in.NextToken); err != nil {
		return nil, err
	}
	page, err := c.api.Store.Read(c.ctx, c.account, group, q)
	if err != nil {
		return nil, err
	}
	out := filterOutput{Events: make([]filteredEvent, len(page.Records)), Searched: []struct{}{}, NextToken: encodeToken(page.Next)}
	for i, r := range page.Records {
		out.Events[i] = filteredEvent{r.Stream, r.Time.UnixMilli(), r.Message, r.Ingested.UnixMilli(), r.ID}
	}
	return out, nil
}

type getInput struct {
	LogGroupName, LogGroupIdentifier, LogStreamName, NextToken string
	StartTime, EndTime                                         *int64
	Limit                                                      *int
	StartFromHead                                              bool
}

type outputEvent struct {
	Timestamp     int64  `json:"timestamp"`
	Message       string `json:"message"`
	IngestionTime int64  `json:"ingestionTime"`
}

type getOutput struct {
	Events            []outputEvent `json:"events"`
	NextForwardToken  string        `json:"nextForwardToken"`
	NextBackwardToken string        `json:"nextBackwardToken"`
}

func (c *call) getLogEvents(in getInput) (any, error) {
	group, err := c.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if in.LogStreamName == "" {
		return nil, invalid("1 validation error detected: Value null at 'logStreamName' failed to satisfy constraint: Member must not be null")
	}
	q := Query{Start: millis(in.StartTime), End: millis(in.EndTime), Streams: []string{in.LogStreamName}, Arrival: true, Last: !in.StartFromHead}
	if q.Limit, err = limited(in.Limit, maxPageEvents); err != nil {
		return nil, err
	}
	if in.NextToken != "" {
		direction, cursor, _ := strings.Cut(in.NextToken, "/")
		if direction != "f" && direction != "b" {
			return nil, ErrCursor
		}
		q.Last = direction == "b"
		if q.Cursor, err = decodeToken(cursor); err != nil {
			return nil, err
		}
	}
	page, err := c.api.Store.Read(c.ctx, c.account, group, q)
	if err != nil {
		return nil, err
	}
	if len(page.Records) == 0 && in.NextToken == "" {
		if err := c.hasStream(group, in.LogStreamName); err != nil {
			return nil, err
		}
	}
	out := getOutput{make([]outputEvent, len(page.Records)), "f/" + encodeToken(page.Next), "b/" + encodeToken(page.Previous)}
	for i, r := range page.Records {
		out.Events[i] = outputEvent{r.Time.UnixMilli(), r.Message, r.Ingested.UnixMilli()}
	}
	return out, nil
}

func (c *call) hasStream(group, stream string) error {
	streams, err := c.api.Store.Streams(c.ctx, c.account, group, stream)
	if err != nil {
		return err
	}
	if len(streams) == 0 || streams[0].Name != stream {
		return &apiError{"ResourceNotFoundException", "The specified log stream does not exist."}
	}
	return nil
}

type describeGroupsInput struct {
	LogGroupNamePrefix, LogGroupNamePattern, NextToken string
	Limit                                              *int
}

type groupOutput struct {
	LogGroupName      string `json:"logGroupName"`
	CreationTime      int64  `json:"creationTime"`
	MetricFilterCount int    `json:"metricFilterCount"`
	ARN               string `json:"arn"`
	StoredBytes       int64  `json:"storedBytes"`
	LogGroupClass     string `json:"logGroupClass"`
	LogGroupARN       string `json:"logGroupArn"`
}

type describeGroupsOutput struct {
	LogGroups []groupOutput `json:"logGroups"`
	NextToken string        `json:"nextToken,omitempty"`
}

func (c *call) describeLogGroups(in describeGroupsInput) (any, error) {
	if in.LogGroupNamePattern != "" {
		return nil, invalid("logGroupNamePattern is not supported; use logGroupNamePrefix")
	}
	limit, err := limited(in.Limit, maxDescribe)
	if err != nil {
		return nil, err
	}
	after, err := decodeToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	groups, err := c.api.Store.Groups(c.ctx, c.account, in.LogGroupNamePrefix, after, limit+1)
	if err != nil {
		return nil, err
	}
	out := describeGroupsOutput{LogGroups: []groupOutput{}}
	if len(groups) > limit {
		groups = groups[:limit]
		out.NextToken = encodeToken(groups[limit-1].Name)
	}
	for _, g := range groups {
		out.LogGroups = append(out.LogGroups, groupOutput{LogGroupName: g.Name, CreationTime: g.Created.UnixMilli(),
			ARN: c.arn(g.Name) + ":*", StoredBytes: g.Bytes, LogGroupClass: "STANDARD", LogGroupARN: c.arn(g.Name)})
	}
	return out, nil
}

type describeStreamsInput struct {
	LogGroupName, LogGroupIdentifier, LogStreamNamePrefix, OrderBy, NextToken string
	Descending                                                                bool
	Limit                                                                     *int
}

type streamOutput struct {
	LogStreamName       string `json:"logStreamName"`
	CreationTime        int64  `json:"creationTime"`
	FirstEventTimestamp int64  `json:"firstEventTimestamp"`
	LastEventTimestamp  int64  `json:"lastEventTimestamp"`
	LastIngestionTime   int64  `json:"lastIngestionTime"`
	ARN                 string `json:"arn"`
	StoredBytes         int64  `json:"storedBytes"`
}

type describeStreamsOutput struct {
	LogStreams []streamOutput `json:"logStreams"`
	NextToken  string         `json:"nextToken,omitempty"`
}

func (c *call) describeLogStreams(in describeStreamsInput) (any, error) {
	group, err := c.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	limit, err := limited(in.Limit, maxDescribe)
	if err != nil {
		return nil, err
	}
	after, err := decodeToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	streams, err := c.api.Store.Streams(c.ctx, c.account, group, in.LogStreamNamePrefix)
	if err != nil {
		return nil, err
	}
	switch in.OrderBy {
	case "LastEventTime":
		if in.LogStreamNamePrefix != "" {
			return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
		}
		slices.SortStableFunc(streams, func(x, y Stream) int { return x.Last.Compare(y.Last) })
	case "", "LogStreamName":
	default:
		return nil, invalid("1 validation error detected: Value '%.64s' at 'orderBy' failed to satisfy constraint: "+
			"Member must satisfy enum value set: [LogStreamName, LastEventTime]", in.OrderBy)
	}
	if in.Descending {
		slices.Reverse(streams)
	}
	if after != "" {
		at := slices.IndexFunc(streams, func(s Stream) bool { return s.Name == after })
		streams = streams[at+1:] // a stream that is gone meanwhile begins anew
	}
	out := describeStreamsOutput{LogStreams: []streamOutput{}}
	if len(streams) > limit {
		streams = streams[:limit]
		out.NextToken = encodeToken(streams[limit-1].Name)
	}
	for _, s := range streams {
		out.LogStreams = append(out.LogStreams, streamOutput{s.Name, s.First.UnixMilli(), s.First.UnixMilli(), s.Last.UnixMilli(),
			s.LastIngested.UnixMilli(), c.arn(group) + ":log-stream:" + s.Name, s.Bytes})
	}
	return out, nil
}

type groupInput struct{ LogGroupName string }

func (c *call) createLogGroup(in groupInput) (any, error) {
	group, err := c.groupOf(in.LogGroupName, "")
	if err != nil {
		return nil, err
	}
	return nil, c.api.Store.CreateGroup(c.account, group)
}

func (c *call) deleteLogGroup(in groupInput) (any, error) {
	group, err := c.groupOf(in.LogGroupName, "")
	if err != nil {
		return nil, err
	}
	return nil, c.api.Store.DeleteLogGroup(c.ctx, c.account, group)
}
